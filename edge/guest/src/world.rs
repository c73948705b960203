//! The worlds of functions: which handler a component exports decides which engine compiles and runs it.

use eyot_bundle::component::{self, WORLD_0_3};

/// A world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum World {
    /// `wasi:http/incoming-handler@0.2`: a call has its store to itself.
    V02,
    /// `wasi:http/handler@0.3`: tasks, streams and futures in one store.
    V03,
}

impl World {
    /// All of them; the one that most functions have comes first.
    pub(crate) const ALL: [Self; 2] = [Self::V02, Self::V03];

    /// The world of a component. What is none is for the engine to say.
    pub(crate) fn of(wasm: &[u8]) -> Self {
        if component::world_of(wasm).is_ok_and(|world| world == WORLD_0_3) { Self::V03 } else { Self::V02 }
    }
}
