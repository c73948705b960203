//! The engine: how functions are compiled, and where their memories come from.

use std::sync::Arc;

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

use crate::kept::KEPT_MAX;
use crate::known::Known;
use crate::settings::{Error, SLOTS_MAX, Settings};
use crate::slots::slots_at_all_depths;
use crate::world::World;

/// Linear memories of one component.
const MEMORIES_MAX: u32 = 2;
/// Tables of one component.
const TABLES_MAX: u32 = 8;
/// Core instances of one component; Python links some forty libraries.
const CORE_INSTANCES_MAX: u32 = 64;
/// Calls of WASI 0.3 at once: the address space has no room for two pools of the largest size.
pub(crate) const SLOTS_0_3_MAX: usize = 3072;
/// Stacks for each of these: a call may have several tasks that wait in the midst of a function.
const STACKS_0_3: u32 = 2;
/// Of a table, what is emptied in place and stays resident; what is beyond it costs a system call and its faults again.
const TABLE_RESIDENT_BYTES: usize = 16 << 10;
/// Elements of one table.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 65_536;

/// What decides how code is compiled; the same for the engine that compiles and the one that runs. Tasks within a store cost
/// every call: only the world that has them pays.
fn config(world: World) -> Config {
    let mut config = Config::new();
    config
        .concurrency_support(world == World::V03)
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
pub(crate) fn compiling(world: World, known: Option<Arc<Known>>) -> Result<Engine, Error> {
    let refuse = |error: wasmtime::Error| Error::Engine(format!("{error:#}"));
    let mut config = config(world);
    if let Some(known) = known {
        config.enable_incremental_compilation(known).map_err(refuse)?;
    }
    Engine::new(&config).map_err(refuse)
}

/// The engines that run, each with a pool of its own.
#[derive(Clone)]
pub(crate) struct Engines {
    old: Engine,
    new: Engine,
}

impl Engines {
    /// With pools for `settings.slots` calls at once, and those they call.
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        let slots = settings.slots;
        if !(1..=SLOTS_MAX).contains(&slots) {
            return Err(Error::Engine(format!("{slots} slots are outside 1 to {SLOTS_MAX}")));
        }
        let slots = slots_at_all_depths(slots);
        let old = running(settings, World::V02, slots + KEPT_MAX)?;
        let new =
            running(settings, World::V03, slots.min(u32::try_from(SLOTS_0_3_MAX).unwrap_or(u32::MAX)) + KEPT_MAX)?;
        Ok(Self { old, new })
    }

    pub(crate) fn of(&self, world: World) -> &Engine {
        match world {
            World::V02 => &self.old,
            World::V03 => &self.new,
        }
    }

    /// To be called once a millisecond while calls run.
    pub(crate) fn tick(&self) {
        self.old.increment_epoch();
        self.new.increment_epoch();
    }
}

/// An engine with a pool of so many instances.
fn running(settings: &Settings, world: World, slots: u32) -> Result<Engine, Error> {
    let memory_bytes_max = usize::try_from(settings.memory_bytes_max).unwrap_or(usize::MAX).clamp(64 << 10, 4 << 30);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots * CORE_INSTANCES_MAX)
        .total_memories(slots * MEMORIES_MAX)
        .total_tables(slots * TABLES_MAX)
        .total_stacks(if world == World::V03 { slots * STACKS_0_3 } else { slots })
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .max_tables_per_module(TABLES_MAX)
        .max_memories_per_module(MEMORIES_MAX)
        .max_memory_size(memory_bytes_max)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_unused_warm_slots(slots * MEMORIES_MAX)
        .async_stack_keep_resident(32 << 10)
        .table_keep_resident(TABLE_RESIDENT_BYTES)
        // Pages that were swapped out would not be reset and reach the next instance.
        .pagemap_scan(Enabled::No);
    let mut config = config(world);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config).map_err(|error| Error::Engine(format!("{error:#}")))
}
