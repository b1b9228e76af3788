//! The weights that `twotower.user_vector` uses.

use super::Postgres;
use super::session::{query, query_scalar};
use crate::{Lease, StoreError};
use twotower_core::matrix::Matrix;
use twotower_core::tower::UserTower;

/// Maximum number of values in one vector of pgvector.
const MOST_NUMBERS: usize = 16_000;

/// Rows of version $1 other than the first units ($3) of each layer ($2).
macro_rules! left {
    () => {
        "FROM twotower.user_towers AS old WHERE version = $1
         AND NOT EXISTS (SELECT FROM unnest($2::text[], $3::integer[]) AS new (layer, units)
                         WHERE new.layer = old.layer AND old.unit < new.units)"
    };
}

/// Leaves existing rows untouched: a version's weights never change, so that a daily update writes
/// none.
const UPSERT: &str = "
    INSERT INTO twotower.user_towers AS old (version, layer, unit, weights)
    SELECT $1, $2, unit, ($3::real[])[unit * $4 + 1 : (unit + 1) * $4] FROM generate_series(0, $5 - 1) AS unit
    ON CONFLICT (version, layer, unit) DO UPDATE SET weights = excluded.weights
    WHERE old.weights::real[] IS DISTINCT FROM excluded.weights::real[]";

/// Whether there are rows that do not belong to the tower.
const ANY_LEFT: &str = concat!("SELECT EXISTS (SELECT ", left!(), ")");

const DELETE_LEFT: &str = concat!("DELETE ", left!());

/// A layer in the form of the table: one row per output.
struct Layer {
    name: &'static str,
    /// Weights per row.
    width: usize,
    /// `[rows, width]`
    weights: Vec<f32>,
}

impl Layer {
    fn units(&self) -> i32 {
        (self.weights.len() / self.width) as i32
    }
}

impl Postgres {
    pub(crate) async fn write_user_tower(
        &self,
        lease: Option<Lease>,
        version: i64,
        tower: &UserTower,
    ) -> Result<bool, StoreError> {
        let layers = layers(tower);
        let fits = layers.iter().all(|layer| layer.width <= MOST_NUMBERS);
        let written = if fits { &layers[..] } else { &[] };
        let mut session = self.begin_publishing(lease, self.statement_timeout).await?;
        let names: Vec<&str> = written.iter().map(|layer| layer.name).collect();
        let units: Vec<i32> = written.iter().map(Layer::units).collect();
        // Checked first, so that roles that write towers need the right to delete only when there
        // is something to delete.
        let left: bool = query_scalar(ANY_LEFT)
            .bind(version)
            .bind(&names)
            .bind(&units)
            .fetch_one(&mut *session)
            .await?;
        if left {
            query(DELETE_LEFT)
                .bind(version)
                .bind(&names)
                .bind(&units)
                .execute(&mut *session)
                .await?;
        }
        for layer in written {
            query(UPSERT)
                .bind(version)
                .bind(layer.name)
                .bind(&layer.weights)
                .bind(layer.width as i32)
                .bind(layer.units())
                .execute(&mut *session)
                .await?;
        }
        session.commit().await?;
        Ok(fits)
    }
}

/// Layouts as in the migration that creates the table.
fn layers(tower: &UserTower) -> [Layer; 3] {
    let head = &tower.head;
    let column = |matrix: &Matrix, unit: usize| -> Vec<f32> {
        (0..matrix.rows())
            .map(|row| matrix.row(row)[unit])
            .collect()
    };
    let mut hidden = Vec::new();
    for (unit, &bias) in head.hidden.bias.iter().enumerate() {
        hidden.extend(column(&head.hidden.weight, unit));
        hidden.push(bias);
    }
    let mut output = Vec::new();
    for (unit, &bias) in head.output.bias.iter().enumerate() {
        output.extend(column(&head.residual, unit));
        output.push(bias);
        output.extend(column(&head.output.weight, unit));
    }
    let mut decays = tower.decays.clone();
    decays.push(tower.skip_decay);
    let layer = |name, width, weights| Layer {
        name,
        width,
        weights,
    };
    [
        layer("decays", decays.len(), decays),
        layer("hidden", head.inputs() + 1, hidden),
        layer("output", head.inputs() + 1 + head.hidden_units(), output),
    ]
}
