SELECT holder, fence, expires_at FROM lease WHERE name = %(name)s;
