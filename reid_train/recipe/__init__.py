"""Methods as data: their schema, their files, and how one becomes a task with stages."""
