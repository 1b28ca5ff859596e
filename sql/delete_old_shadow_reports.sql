-- What gateways saw of shadows that began so many days ago, but for those of a plan that goes on or was heard of since.
WITH gone AS (
    DELETE FROM shadow_report AS report
    USING routing_epoch AS began
    WHERE report.pool_id = %(pool_id)s AND began.pool_id = report.pool_id AND began.epoch = report.since_epoch
      AND began.published_at < clock_timestamp() - make_interval(days => %(days)s)
      AND NOT EXISTS (
          SELECT FROM plan
          WHERE plan.pool_id = began.pool_id AND plan.plan_id = began.plan_id
            AND plan.state NOT IN ('done', 'rejected', 'failed', 'rolled_back')
      )
      AND NOT EXISTS (
          SELECT FROM transition_event AS event
          WHERE event.pool_id = began.pool_id AND event.plan_id = began.plan_id
            AND event.at > clock_timestamp() - make_interval(days => %(days)s)
      )
    RETURNING report.since_epoch
)
SELECT count(*) AS removed FROM gone;
