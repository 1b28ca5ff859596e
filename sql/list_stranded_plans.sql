-- Plans with moves that were begun and not ended, although the plan has ended; and the plan that is carried out, with the
-- seconds since its last event and whether somebody holds the controller's lease.
SELECT plan_id, plan.state,
       (SELECT count(*) FROM plan_move AS move
        WHERE move.pool_id = plan.pool_id AND move.plan_id = plan.plan_id
          AND move.state NOT IN ('planned', 'done', 'rolled_back')) AS begun,
       (SELECT count(*) FROM plan_move AS move
        WHERE move.pool_id = plan.pool_id AND move.plan_id = plan.plan_id AND move.state = 'paused') AS paused,
       extract(epoch FROM clock_timestamp() - (
           SELECT max(at) FROM transition_event AS event
           WHERE event.pool_id = plan.pool_id AND event.plan_id = plan.plan_id
       ))::double precision AS quiet_seconds,
       EXISTS (SELECT FROM lease WHERE name = %(lease_name)s AND expires_at > clock_timestamp()) AS is_controlled
FROM plan
WHERE pool_id = %(pool_id)s AND state NOT IN ('proposed', 'approved')
ORDER BY plan.created_at;
