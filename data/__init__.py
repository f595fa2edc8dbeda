"""The training set of the bundled models, made from registry packages (`python -m data.build`)."""
