"""The rows of a user over a small protocol of tables: what a store without SQL has to implement."""
