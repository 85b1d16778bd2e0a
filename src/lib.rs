//! In-process concurrency control: locks by key at the price of a bare mutex.
