"""The KugelAudio wire protocol, for the client and for the gateway."""
