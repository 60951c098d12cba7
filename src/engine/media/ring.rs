//! A bounded single-producer single-consumer ring with a wake-up: how audio moves between a leg, its call and a backend
//! stream without a lock and without an allocation.
//!
//! `rtrb` holds the items; an atomic waker tells the reader's task that something came. A full ring refuses the new
//! item at once: the writer counts it and goes on, it never waits. Dropping either end is how the other learns of the
//! end: the reader sees `None` after the last item, the writer sees [`Sender::is_closed`].

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use atomic_waker::AtomicWaker;

/// The writing end.
pub struct Sender<T> {
    // Dropped in this order: the reader is woken after the end has been marked.
    items: rtrb::Producer<T>,
    reader: WakeOnDrop,
}

/// The reading end.
pub struct Receiver<T> {
    items: rtrb::Consumer<T>,
    waker: Arc<AtomicWaker>,
}

/// The reader's waker as the writer holds it: woken once more when the writer goes.
struct WakeOnDrop(Arc<AtomicWaker>);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        self.0.wake();
    }
}

/// A ring for at most `capacity` items.
pub fn ring<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let (producer, consumer) = rtrb::RingBuffer::new(capacity);
    let waker = Arc::new(AtomicWaker::new());
    (
        Sender {
            items: producer,
            reader: WakeOnDrop(waker.clone()),
        },
        Receiver {
            items: consumer,
            waker,
        },
    )
}

impl<T> Sender<T> {
    /// Puts one item in, or gives it back if the ring is full or the reader is gone.
    pub fn push(&mut self, item: T) -> Result<(), T> {
        if self.is_closed() {
            return Err(item);
        }
        self.items
            .push(item)
            .map_err(|rtrb::PushError::Full(item)| item)?;
        self.reader.0.wake();
        Ok(())
    }

    /// How many more items fit at this moment.
    pub fn free(&self) -> usize {
        self.items.slots()
    }

    /// Whether the reader is gone.
    pub fn is_closed(&self) -> bool {
        self.items.is_abandoned()
    }
}

impl Sender<u8> {
    /// Copies in as much of `bytes` as fits and says how much that was.
    pub fn push_slice(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.items.slots());
        let Ok(mut chunk) = self.items.write_chunk(count) else {
            return 0;
        };
        let (head, tail) = chunk.as_mut_slices();
        let (first, second) = bytes[..count].split_at(head.len());
        head.copy_from_slice(first);
        tail.copy_from_slice(second);
        chunk.commit_all();
        self.reader.0.wake();
        count
    }
}

impl<T> Receiver<T> {
    /// Takes the oldest item, if there is one.
    pub fn pop(&mut self) -> Option<T> {
        self.items.pop().ok()
    }

    /// How many items wait.
    pub fn len(&self) -> usize {
        self.items.slots()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The oldest item; `None` once the writer is gone and everything has been read.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(item) = self.pop() {
            return Poll::Ready(Some(item));
        }
        self.waker.register(cx.waker());
        // Looked at in this order: an end seen before the last look at the items could hide an item that came between.
        let ended = self.items.is_abandoned();
        match self.pop() {
            Some(item) => Poll::Ready(Some(item)),
            None if ended => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// Waits for the oldest item; `None` once the writer is gone and everything has been read.
    pub async fn recv(&mut self) -> Option<T> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }
}

impl Receiver<u8> {
    /// Waits until bytes are there and appends at most `limit` of them to `out`; `Ready(0)` is the end.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Poll<usize> {
        let count = self.read(out, limit);
        if count > 0 {
            return Poll::Ready(count);
        }
        self.waker.register(cx.waker());
        let ended = self.items.is_abandoned();
        match self.read(out, limit) {
            0 if ended => Poll::Ready(0),
            0 => Poll::Pending,
            count => Poll::Ready(count),
        }
    }

    fn read(&mut self, out: &mut Vec<u8>, limit: usize) -> usize {
        let count = self.items.slots().min(limit);
        let Ok(chunk) = self.items.read_chunk(count) else {
            return 0;
        };
        let (head, tail) = chunk.as_slices();
        out.extend_from_slice(head);
        out.extend_from_slice(tail);
        chunk.commit_all();
        count
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn items_come_out_in_order_and_a_full_ring_gives_the_new_one_back() {
        let (mut sender, mut receiver) = ring(2);
        assert_eq!(sender.push(1), Ok(()));
        assert_eq!(sender.push(2), Ok(()));
        assert_eq!(sender.push(3), Err(3));
        assert_eq!(
            (receiver.pop(), receiver.pop(), receiver.pop()),
            (Some(1), Some(2), None)
        );
    }

    #[test]
    fn the_reader_sees_the_end_after_the_last_item() {
        let (mut sender, mut receiver) = ring(2);
        sender.push(7).expect("room for one");
        drop(sender);
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(receiver.poll_recv(&mut cx), Poll::Ready(Some(7)));
        assert_eq!(receiver.poll_recv(&mut cx), Poll::Ready(None));
    }

    #[test]
    fn the_writer_sees_that_the_reader_is_gone() {
        let (mut sender, receiver) = ring(2);
        drop(receiver);
        assert!(sender.is_closed());
        assert_eq!(sender.push(1), Err(1));
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken_by_an_item_and_by_the_end() {
        let (mut sender, mut receiver) = ring(1);
        let reader = async { (receiver.recv().await, receiver.recv().await) };
        let writer = async {
            tokio::task::yield_now().await;
            sender.push(5).expect("room for one");
            tokio::task::yield_now().await;
            drop(sender);
        };
        let (read, ()) = tokio::join!(reader, writer);
        assert_eq!(read, (Some(5), None));
    }

    #[test]
    fn bytes_wrap_around_and_a_long_slice_is_taken_in_part() {
        let (mut sender, mut receiver) = ring::<u8>(4);
        let mut cx = Context::from_waker(Waker::noop());
        let mut out = Vec::new();
        assert_eq!(sender.push_slice(&[1, 2, 3]), 3);
        assert_eq!(receiver.poll_read(&mut cx, &mut out, 2), Poll::Ready(2));
        assert_eq!(sender.push_slice(&[4, 5, 6, 7]), 3);
        assert_eq!(receiver.poll_read(&mut cx, &mut out, 100), Poll::Ready(4));
        assert_eq!(out, [1, 2, 3, 4, 5, 6]);
        assert_eq!(receiver.poll_read(&mut cx, &mut out, 100), Poll::Pending);
        drop(sender);
        assert_eq!(receiver.poll_read(&mut cx, &mut out, 100), Poll::Ready(0));
    }
}
