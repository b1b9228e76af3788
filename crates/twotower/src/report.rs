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

pub(crate) use data::{EpochRow, Fact, ReportData, worked_examples};
pub(crate) use html::render;
pub(crate) use table::comparison_table;
pub(crate) use words::model_against_model;
