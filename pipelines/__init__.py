"""One thin entry point per stage: compose, build, call the library, record."""
