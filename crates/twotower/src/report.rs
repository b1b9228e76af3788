//! Tables and `report.html`.
