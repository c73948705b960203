//! The engine: how functions are compiled, and where their memories come from.

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

use crate::settings::{Error, SLOTS_MAX, Settings};
use crate::slots::slots_at_all_depths;

/// Linear memories of one component.
const MEMORIES_MAX: u32 = 2;
/// Tables of one component.
const TABLES_MAX: u32 = 8;
/// Core instances of one component; Python links some forty libraries.
const CORE_INSTANCES_MAX: u32 = 64;
/// Elements of one table.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 65_536;

/// What decides how code is compiled; the same for the engine that compiles and the one that runs.
fn config() -> Config {
    let mut config = Config::new();
    config
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(256 << 10)
        .async_stack_size(512 << 10)
        .async_stack_zeroing(true)
        .memory_reservation(4 << 30)
        .memory_guard_size(32 << 20)
        .memory_may_move(false)
        .memory_init_cow(true)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .wasm_memory64(false);
    config
}

/// The engine that compiles. It reserves no memory, so it lives under a limit of address space.
pub(crate) fn compiling() -> Result<Engine, Error> {
    Engine::new(&config()).map_err(|error| Error::Engine(format!("{error:#}")))
}

/// The engine that runs, with a pool for `settings.slots` calls at once.
pub(crate) fn running(settings: &Settings) -> Result<Engine, Error> {
    let slots = settings.slots;
    if !(1..=SLOTS_MAX).contains(&slots) {
        return Err(Error::Engine(format!("{slots} slots are outside 1 to {SLOTS_MAX}")));
    }
    let slots = slots_at_all_depths(slots);
    let memory_bytes_max = usize::try_from(settings.memory_bytes_max).unwrap_or(usize::MAX).clamp(64 << 10, 4 << 30);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots * CORE_INSTANCES_MAX)
        .total_memories(slots * MEMORIES_MAX)
        .total_tables(slots * TABLES_MAX)
        .total_stacks(slots)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .max_tables_per_module(TABLES_MAX)
        .max_memories_per_module(MEMORIES_MAX)
        .max_memory_size(memory_bytes_max)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_unused_warm_slots(slots * MEMORIES_MAX)
        .async_stack_keep_resident(32 << 10)
        // Pages that were swapped out would not be reset and reach the next instance.
        .pagemap_scan(Enabled::No);
    let mut config = config();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config).map_err(|error| Error::Engine(format!("{error:#}")))
}
