DELETE FROM transfer_answer WHERE pool_id = %(pool_id)s AND plan_id = %(plan_id)s AND NOT accepted;
