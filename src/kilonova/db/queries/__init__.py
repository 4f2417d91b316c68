"""SQL by aggregate: one file per noun; callers get structs and never see a column."""
