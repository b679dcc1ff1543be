"""History as files and as answers to SQL: everything that happened, asked in columns."""
