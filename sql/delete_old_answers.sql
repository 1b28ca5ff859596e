-- What nodes answered to the moves of plans that ended, and of which nothing was heard for so many days.
WITH gone AS (
    DELETE FROM transfer_answer AS answer
    USING plan
    WHERE answer.pool_id = %(pool_id)s AND plan.pool_id = answer.pool_id AND plan.plan_id = answer.plan_id
      AND plan.state IN ('done', 'rejected', 'failed', 'rolled_back')
      AND NOT EXISTS (
          SELECT FROM transition_event AS event
          WHERE event.pool_id = plan.pool_id AND event.plan_id = plan.plan_id
            AND event.at > clock_timestamp() - make_interval(days => %(days)s)
      )
    RETURNING answer.position
)
SELECT count(*) AS removed FROM gone;
