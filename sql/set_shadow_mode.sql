-- Begins with a name, ends without one. Who begins it anew changes nothing: the first time and name stay.
UPDATE pool
SET shadow_since = CASE WHEN %(by)s::text IS NOT NULL THEN coalesce(shadow_since, clock_timestamp()) END,
    shadow_by = CASE WHEN %(by)s::text IS NULL THEN '' WHEN shadow_since IS NULL THEN %(by)s::text ELSE shadow_by END
WHERE pool_id = %(pool_id)s
RETURNING pool_id, kind, slot_bits, policy, current_epoch, desired_nodes, shadow_since, shadow_by;
