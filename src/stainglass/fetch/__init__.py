"""Public data to begin with: a catalogue, and how a file comes whole, checked and unpacked without harm."""
