"""A score folder's files: tables, masks, manifest."""
