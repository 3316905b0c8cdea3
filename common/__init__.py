"""What every part uses and nothing about materials: errors, whole files, threads, devices, signals, event files."""
