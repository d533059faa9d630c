"""Jobs of a user, one folder or file each: a request in, a result out."""
