-- FOR SHARE: a takeover waits until the writing transaction has ended.
SELECT expires_at <= clock_timestamp() AS expired
FROM lease
WHERE name = %(name)s AND holder = %(holder)s AND fence = %(fence)s
FOR SHARE;
