"""The pages: one module per screen. Running one of these files by itself draws nothing."""
