"""The conductor: the journal, its executor, and the stories (`operations/`) it tells."""
