//! The journal of an apply: everything that writes the state.
//!
//! An intent is durable before its operation starts, and the outcome before a dependant starts. Writes that are ready together share one transaction.

mod bookkeeping;
mod operations;
mod provisional_attributes;
mod records;

pub(super) use bookkeeping::Recovered;
pub(super) use operations::{Journal, OpenOperation};
