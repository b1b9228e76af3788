//! Presents an evaluation: a table for the terminal, and `report.html`.
//!
//! Both are made from [`ReportData`], plain data that names no user.

mod data;

mod words;

mod table;

mod chart;

mod html;

#[cfg(test)]
mod sample;

pub use data::{EpochRow, Fact, RecommendedTitle, ReportData, WorkedExample, worked_examples};
pub use html::render;
pub use table::comparison_table;
pub use words::{BetweenModels, model_against_model};
