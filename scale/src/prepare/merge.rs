use anyhow::Context;
use datafusion::arrow::array::{Array, AsArray, FixedSizeBinaryArray, RecordBatch};
use datafusion::common::DataFusionError;
use tokio::sync::mpsc;

/// Batches of one column whose rows ascend.
type Batches = mpsc::Receiver<Result<RecordBatch, DataFusionError>>;

/// Sorted inputs that are read as one.
#[derive(Debug, Default)]
pub(super) struct Merge {
    inputs: Vec<Input>,
}

#[derive(Debug)]
struct Input {
    batches: Batches,
    rows: FixedSizeBinaryArray,
    next: usize,
}

impl Merge {
    /// Adds an input.
    pub(super) fn add(&mut self, batches: Batches) {
        self.inputs.push(Input {
            batches,
            rows: FixedSizeBinaryArray::new_null(0, 0),
            next: 0,
        });
    }

    /// Hands over all rows, ascending. Blocks the thread.
    pub(super) fn rows(
        mut self,
        mut visit: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        loop {
            let mut least: Option<(usize, &[u8])> = None;
            for (index, input) in self.inputs.iter_mut().enumerate() {
                if let Some(row) = input.row()?
                    && least.is_none_or(|(_, least)| row < least)
                {
                    least = Some((index, row));
                }
            }
            let Some((index, row)) = least else {
                return Ok(());
            };
            visit(row)?;
            self.inputs[index].next += 1;
        }
    }
}

impl Input {
    /// The next row, if there is one.
    fn row(&mut self) -> anyhow::Result<Option<&[u8]>> {
        while self.next == self.rows.len() {
            let Some(batch) = self.batches.blocking_recv() else {
                return Ok(None);
            };
            let batch = batch.context("sort the likes and skips")?;
            let rows = batch.column(0).as_fixed_size_binary_opt();
            self.rows = rows
                .context("the engine gave back other columns than asked for")?
                .clone();
            self.next = 0;
        }
        Ok(Some(self.rows.value(self.next)))
    }
}
