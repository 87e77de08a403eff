import logging
import logging as lg
from logging import getLogger, info

from continuum import log

logger = logging.getLogger(__name__)
audit = logging.LoggerAdapter(logger, {})


async def bad_every_level(order):
    logger.debug("order %s", order)  # !CT111
    logger.info("order %s", order)  # !CT111
    logger.warning("order %s", order)  # !CT111
    logger.error("order %s", order)  # !CT111
    logger.critical("order %s", order)  # !CT111
    logger.exception("order %s", order)  # !CT111
    logger.log(logging.INFO, "order %s", order)  # !CT111
    audit.info("order %s", order)  # !CT111


async def bad_aliases(order):
    lg.info(order)  # !CT111
    info(order)  # !CT111
    getLogger("here").info(order)  # !CT111
    mine = logging.getLogger("mine")
    mine.info(order)  # !CT111
    below = mine.getChild("below")
    below.info(order)  # !CT111


async def bad_settings():
    logger.setLevel(logging.DEBUG)  # !CT111
    logging.basicConfig()  # !CT111
    logging.disable()  # !CT111
    logger.addHandler(None)  # !CT111


async def good_log(order):
    log.info("order %s", order, extra={"order": order})
    log.log(logging.WARNING, "late")


async def good_own_log(logger):
    logger.info("not one of logging's, as far as anybody knows")
