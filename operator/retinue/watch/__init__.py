"""The only importer of kopf: events go into the cache and the queue, nothing else happens here."""
