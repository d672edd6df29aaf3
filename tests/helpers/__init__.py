"""What several tests stand on: real classes at toy size, servers, sample data."""
