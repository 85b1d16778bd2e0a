//! The parts of `latchtop`: a report of a console, where it comes from, and how it is drawn.

pub mod load;
pub mod program;
pub mod report;
pub mod screen;
pub mod screens;
pub mod source;
pub mod svg;
pub mod watch;
