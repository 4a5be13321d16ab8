"""Who runs executions: ownership, takeover, starting and stopping."""
