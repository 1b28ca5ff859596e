-- Plans that shadow mode kept from being carried out, the newest first, each with when another layout than theirs followed.
SELECT plan.plan_id, plan.created_at, plan.document, plan.problem,
       (SELECT min(published_at) FROM routing_epoch AS later
        WHERE later.pool_id = plan.pool_id AND later.epoch > plan.base_epoch) AS layout_until
FROM plan
WHERE plan.pool_id = %(pool_id)s AND plan.state = 'rejected' AND plan.problem IS NOT NULL AND EXISTS (
    SELECT FROM transition_event AS event
    WHERE event.pool_id = plan.pool_id AND event.plan_id = plan.plan_id
      AND event.position IS NULL AND event.stage = 'rejected' AND event.actor = %(actor)s
)
ORDER BY plan.created_at DESC, plan.plan_id
LIMIT %(newest)s;
