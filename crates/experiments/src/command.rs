//! What every experiment binary runs.
