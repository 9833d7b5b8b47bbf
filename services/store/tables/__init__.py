"""The rows of a user over a small protocol of tables, which a store without SQL has to implement."""
