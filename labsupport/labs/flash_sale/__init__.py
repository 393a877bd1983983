"""16 A flash sale: a shop of seven parts in one storm, where each part that is wrong breaks its claim."""

from labsupport.labs.flash_sale.leaders import Leaders
from labsupport.labs.flash_sale.sale import FlashSale
from labsupport.labs.flash_sale.shop import Shop, table_of

__all__ = ["FlashSale", "Leaders", "Shop", "table_of"]
