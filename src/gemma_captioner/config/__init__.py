"""Settings, each once; where their values come from; presets; what trainers and text encoders take."""
