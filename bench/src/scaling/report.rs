//! Plays all traces under all laws, and reports as Markdown tables.
