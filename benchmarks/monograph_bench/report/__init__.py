"""Results for people: a table, a page, and what became slower."""
