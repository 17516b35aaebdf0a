"""What builds, shows and checks the package from a clone; none of it is shipped in the wheel."""
