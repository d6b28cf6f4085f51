"""Running as a service: logs, systemd, health figures."""
