"""The CRaFT method as pure functions: data in, data out; no file, clock, logger, settings or model."""
