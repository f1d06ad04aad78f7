//! The store's thread without a thread, a step at a time: for fuzzing.

use super::*;

/// What the thread runs.
pub(crate) struct Engine<T> {
    queue: Receiver<Request<T>>,
    worker: Worker<T>,
}

impl<T: Send + 'static> StoreThread<T> {
    /// `queue` requests may wait until [`Engine::serve`].
    pub(crate) fn by_hand(store: Box<dyn Store>, queue: usize) -> (StoreThread<T>, Engine<T>) {
        let (requests, queue) = sync_channel(queue);
        let noting = Arc::new(AtomicBool::new(false));
        let (worker, replies) = Worker::new(store, None, Arc::clone(&noting));
        let thread = StoreThread { requests: Some(requests), replies, thread: None, noting };
        (thread, Engine { queue, worker })
    }
}

impl<T> Engine<T> {
    /// Carries out what waits, at wall clock `wall` (Unix seconds).
    pub(crate) fn serve(&mut self, wall: u64) {
        while let Ok(first) = self.queue.try_recv() {
            self.worker.serve(first, &self.queue, || wall);
        }
    }
}
