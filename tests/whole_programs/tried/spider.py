"""
A Scrapy spider: it follows all links of a site, and returns the digest of each page.

    scrapy runspider spider.py -a site=http://127.0.0.1:8080/0.html -O pages.json
"""

import hashlib

import scrapy


class Pages(scrapy.Spider):
    """Visits every page."""

    name = "pages"

    def __init__(self, site):
        super().__init__()
        self.start_urls = [site]

    def parse(self, response):
        """Return the digest of a page, and follow its links."""
        yield {"page": response.url, "digest": hashlib.sha256(response.body).hexdigest()}
        yield from response.follow_all(css="a")
