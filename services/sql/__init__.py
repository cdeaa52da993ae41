"""What services that keep a database share: its engine, its transactions and its migrations."""
