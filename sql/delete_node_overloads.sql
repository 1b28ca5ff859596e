DELETE FROM node_overload WHERE pool_id = %(pool_id)s AND NOT node_id = ANY (%(node_ids)s::text[]);
