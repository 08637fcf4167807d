"""Network namespaces, wires, processes and the backend: everything that is measured lives here."""
