use datafusion::common::Result;
use datafusion::execution::memory_pool::{
    FairSpillPool, GreedyMemoryPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};
use std::fmt;

/// Memory of which a part is kept for those who cannot spill.
///
/// What a sort buffers can be spilled; what it needs to compare and merge, also while it spills, cannot. With DataFusion's fair
/// pool alone the buffers of one sort grow into what another is about to need, which then fails where it should spill.
/// So buffers share two fifths of the limit, and the rest is for merging: at 41 bytes a row it needs three fifths of what is
/// buffered, which is up to twice the share where sorts begin one after the other, and a little for what was spilled.
#[derive(Debug)]
pub(crate) struct SortPool {
    limit: usize,
    buffers: FairSpillPool,
    merges: GreedyMemoryPool,
}

impl SortPool {
    /// `limit`: bytes of all consumers together.
    pub(crate) fn new(limit: usize) -> Self {
        let buffers = limit / 5 * 2;
        Self {
            limit,
            buffers: FairSpillPool::new(buffers),
            merges: GreedyMemoryPool::new(limit - buffers),
        }
    }

    fn of(&self, consumer: &MemoryConsumer) -> &dyn MemoryPool {
        if consumer.can_spill() {
            &self.buffers
        } else {
            &self.merges
        }
    }
}

impl fmt::Display for SortPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.name(), self.limit)
    }
}

impl MemoryPool for SortPool {
    fn name(&self) -> &'static str {
        "sort"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.of(consumer).register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.of(consumer).unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.of(reservation.consumer())
            .grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.of(reservation.consumer()).shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.of(reservation.consumer())
            .try_grow(reservation, additional)
    }

    fn reserved(&self) -> usize {
        self.buffers.reserved() + self.merges.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn buffers_leave_room_for_merging() {
        let pool: Arc<dyn MemoryPool> = Arc::new(SortPool::new(1_000));
        let consumer = |name, spills| {
            MemoryConsumer::new(name)
                .with_can_spill(spills)
                .register(&pool)
        };
        let [one, other] = ["one", "other"].map(|name| consumer(name, true));
        one.try_grow(200).unwrap();
        assert!(one.try_grow(1).is_err(), "half of what buffers may take");
        other.try_grow(200).unwrap();
        let merge = consumer("merge", false);
        merge.try_grow(600).unwrap();
        assert!(merge.try_grow(1).is_err());
        drop(other);
        one.try_grow(200).unwrap();
        assert_eq!(pool.reserved(), 1_000);
        drop((one, merge));
        assert_eq!(pool.reserved(), 0);
    }
}
