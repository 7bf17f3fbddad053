"""One file per command of `lingshu`: its options, what it prints, and the next command it proposes."""
