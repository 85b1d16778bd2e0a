//! The calls of one thread, in a buffer that nobody else sees until the thread has ended.

use super::linear::Call;
use super::stamp;

/// What one thread has called, and on which object.
#[derive(Debug)]
pub struct Log<Op> {
    thread: usize,
    calls: Vec<(usize, Call<Op>)>,
}

impl<Op> Log<Op> {
    /// With room for so many calls: recording does not allocate, which would order threads by the
    /// allocator's locks.
    pub fn new(thread: usize, room: usize) -> Self {
        let calls = Vec::with_capacity(room);
        Self { thread, calls }
    }

    /// Runs `f` between two stamps. `op` says what it has done.
    pub fn call<R>(
        &mut self,
        object: usize,
        f: impl FnOnce() -> R,
        op: impl FnOnce(&R) -> Op,
    ) -> R {
        let began = stamp();
        let result = f();
        let ended = stamp();
        self.add(object, began, ended, op(&result));
        result
    }

    pub fn add(&mut self, object: usize, began: u64, ended: u64, op: Op) {
        assert!(self.calls.len() < self.calls.capacity(), "too little room");
        let thread = self.thread;
        self.calls.push((
            object,
            Call {
                thread,
                began,
                ended,
                op,
            },
        ));
    }
}

/// The calls of each of so many objects.
pub fn by_object<Op>(
    logs: impl IntoIterator<Item = Log<Op>>,
    objects: usize,
) -> Vec<Vec<Call<Op>>> {
    let mut all: Vec<Vec<_>> = (0..objects).map(|_| Vec::new()).collect();
    for (object, call) in logs.into_iter().flat_map(|log| log.calls) {
        all[object].push(call);
    }
    all
}
