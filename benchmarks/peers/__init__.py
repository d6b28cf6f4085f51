"""What people do without kugel-bridge: the peers that its figures are held against."""
