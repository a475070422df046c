"""The table of data sets: files, bytes, SHA-256, and where each comes from."""

from __future__ import annotations

from .registry import Download, Entry, File

CATALOGUE: dict[str, Entry] = {
    "cifar10": Entry(
        "CIFAR-10: 50,000 + 10,000 colour images, 10 classes",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        files=(
            File("images/cifar10.npz", 101080078, "29d6610111237afb9c17a940ebe5e525434e0c4f881c4eaf1aa4b4124699bd29"),
        ),
        downloads=(
            Download(
                "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                File(
                    "images/cifar-10-binary.tar.gz",
                    170052171,
                    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                ),
            ),
        ),
    ),
    "cifar100": Entry(
        "8,000 images of CIFAR-100, 100 classes, not the official split",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        files=(
            File(
                "images/cifar100_8k.npz", 13663647, "9b682562f0a4e2176a88c31b687487f4a6f519e38d8eb14108321bbee4a04cf7"
            ),
        ),
    ),
    "mnist_writers": Entry(
        "MNIST with the writer of each digit, 60,000 + 10,000",
        "https://github.com/facebookresearch/qmnist",
        files=(
            File(
                "images/mnist_writers.npz", 9428997, "6213aa232754dea4600ab662568b610e0f0b375f44ef7cae4e624905cdf8216f"
            ),
        ),
    ),
    "femnist": Entry(
        "FEMNIST in LEAF's JSON form, 62 classes, by writer",
        "https://github.com/TalwalkarLab/leaf",
        layout="femnist/train/*.json femnist/test/*.json",
    ),
    "movielens": Entry(
        "MovieLens ml-latest-small: 100,836 ratings, 610 users",
        "https://grouplens.org/datasets/movielens/latest/",
        files=(
            File(
                "ratings/ml-latest-small/ratings.csv.gz",
                684089,
                "f5357a61740ebcf47e20ec53456997d048298ba3ef35fdc6060ed6c677728145",
            ),
        ),
        extra=(
            File(
                "ratings/ml-latest-small/movies.csv.gz",
                166561,
                "1d059d5fc8793fc0c8be8bad9e26907fed81b7ea1594b92d9b0d6166b8145d63",
            ),
            File(
                "ratings/ml-latest-small/tags.csv.gz",
                36369,
                "4761011ed74c28cd034188969c1efef2b3209ef2f7d54fd6ec89fab80f925754",
            ),
            File(
                "ratings/ml-latest-small/links.csv.gz",
                87035,
                "53c954d8087ae88dfb91fb48d83ceba3a8fca7c00cae918196fd9dcc892e27b8",
            ),
            File(
                "ratings/ml-latest-small/README.txt",
                8342,
                "63d22ac138e80fae37021797ed8e1b9424b5239dc576a137422adf783ae3f404",
            ),
        ),
        downloads=(
            Download(
                "https://files.grouplens.org/datasets/movielens/ml-latest-small.zip",
                File(
                    "ratings/ml-latest-small/ratings.csv",
                    2483723,
                    "aa289ca83157595d0df6aea1be6a4ded676ddc4385472e8313a8ed9805352646",
                ),
                member="ml-latest-small/ratings.csv",
            ),
        ),
    ),
    "ag_news": Entry(
        "AG News: 7,600 items of the test part, 4 classes",
        "http://groups.di.unipi.it/~gulli/AG_corpus_of_news_articles.html",
        files=(
            File(
                "classify/ag_news_test.jsonl.gz",
                801400,
                "c2f0a24fb3eb85abe45771ebde09dedc2ad84c03bfae70aab921e885ee03810f",
            ),
        ),
    ),
    "sent140": Entry(
        "Sentiment140, LEAF subset: 10,618 tweets of 772 users",
        "https://github.com/TalwalkarLab/leaf",
        files=(
            File(
                "classify/sent140.jsonl.gz", 350799, "e3a43f9375a169682e13ac835f32b41ee6557ea4649285b6ea5caa4841b262e7"
            ),
        ),
    ),
    "mirage": Entry(
        "MIRAGE: 7,663 medical questions of five benchmarks",
        "https://github.com/Teddy-XiongGZ/MIRAGE",
        files=(
            File(
                "qa/mirage_benchmark.json.gz",
                1092975,
                "fb3779c0630334be3513f76786dc8fcfcf15a978af205bd5061b771c412a01af",
            ),
        ),
        downloads=(
            Download(
                "https://raw.githubusercontent.com/Teddy-XiongGZ/MIRAGE/main/benchmark.json",
                File(
                    "qa/mirage_benchmark.json",
                    4296735,
                    "6f7f08c64cd2efe02a5d0c247229813c90db345d9dd6e3a451b5d24146d0f8fa",
                ),
            ),
        ),
    ),
    "mmlu": Entry(
        "MMLU: 15,858 multiple-choice questions, 57 subjects",
        "https://github.com/hendrycks/test",
        files=(File("qa/mmlu.jsonl.gz", 2413201, "94a44d240de45682d9bd7cfd49afff41677707ed911eb0c266cfd13c5fcc705e"),),
    ),
    "feb4rag": Entry(
        "FeB4RAG: 790 queries, grades of 16 engines",
        "https://github.com/ielab/FeB4RAG",
        files=(
            File(
                "qa/feb4rag_queries.jsonl.gz", 29712, "8a9cee6fc76af0e253c4e622e9bb472248a6a4002e8e60b674a55d54505dfcaa"
            ),
            File("qa/feb4rag_grades.tsv.gz", 41308, "e38b975ab461519da6c531878a2396b434635275daf7e465d89b2978b3644376"),
        ),
    ),
    "ragroute": Entry(
        "RAGRoute: corpora relevant to MIRAGE's questions",
        "https://github.com/sacs-epfl/ragroute",
        files=(
            File(
                "qa/ragroute_medrag_relevance_top32.json.gz",
                113381,
                "cbcb5ab59c5098b5b300cdf7971ce088ddc98c7475fa5e90ef4bb9cd9825be10",
            ),
            File(
                "qa/ragroute_question_order.json.gz",
                110060,
                "02db2467ed38ee275a3b89e8c2275b2fa6afa342b34f9fb3e82c9c587e09a27d",
            ),
        ),
    ),
    "text/climate": Entry(
        "Wikipedia sentences on climate, claims",
        "https://github.com/tdiggelm/climate-fever-dataset",
        files=(
            File(
                "text/climate.passages.jsonl.gz",
                410080,
                "90c9a2edca2f4f822ce872e1d69b5ab9e8e7780b72353a48da85191625958380",
            ),
            File(
                "text/climate.queries.jsonl.gz",
                111556,
                "2dd065e79844f4ac0918ee9cadddbcd1d3666df8768422649fb5a9c76bec1d17",
            ),
        ),
    ),
    "text/electronics": Entry(
        "electronics abstracts, searches (NPL)",
        "https://ir.dcs.gla.ac.uk/resources/test_collections/npl/",
        files=(
            File(
                "text/electronics.passages.jsonl.gz",
                1017941,
                "790b50ae5d2bc4becc46ffcc164b03e8548b93e6d224aed48112e31d74dce49b",
            ),
            File(
                "text/electronics.queries.jsonl.gz",
                9855,
                "e91052ae8c3590766da573273e6e060964b434606d0966adf8a9d9781d0c9477",
            ),
        ),
    ),
    "text/finance": Entry(
        "annual reports, questions (TAT-QA)",
        "https://github.com/NExTplusplus/TAT-QA",
        files=(
            File(
                "text/finance.passages.jsonl.gz",
                395712,
                "6cbb4707378a34c0fd2b550b00576fadb8383a0084406cac5a791dcac4290575",
            ),
            File(
                "text/finance.queries.jsonl.gz",
                180313,
                "83e15b7cce9d09866ecf9802c47213062d52735f5a1f24fb692aaa13bb87cadf",
            ),
        ),
    ),
    "text/medquad": Entry(
        "health answers and questions (MedQuAD)",
        "https://github.com/abachaa/MedQuAD",
        files=(
            File(
                "text/medquad.passages.jsonl.gz",
                4826419,
                "4729dbe53d5942c5ff4671b1dae00da900fa238314114ad1e75ddace16e8dc46",
            ),
            File(
                "text/medquad.queries.jsonl.gz",
                209181,
                "3ed0a354f47e56b4d6bd3d42fda17a7da6659486f378fa36586135908544125a",
            ),
        ),
    ),
    "text/news": Entry(
        "news descriptions, headlines (AG News)",
        "http://groups.di.unipi.it/~gulli/AG_corpus_of_news_articles.html",
        files=(
            File(
                "text/news.passages.jsonl.gz",
                659532,
                "6e6bebb6fcd09a3fff21c33b5b445d0c41be6a4feea629bb7470b8676e63d72b",
            ),
            File(
                "text/news.queries.jsonl.gz", 229137, "d51f19869119823a455ae6112a621e41cde0bd2d4afdb84ecdc0a8d760663c57"
            ),
        ),
    ),
    "text/privacypolicy": Entry(
        "privacy policies, questions (PolicyQA)",
        "https://github.com/wasiahmad/PolicyQA",
        files=(
            File(
                "text/privacypolicy.passages.jsonl.gz",
                149794,
                "39ba431acec8c8726bbc8a1121123a4e595277bd7cf74f2cf2a191dbd10a1692",
            ),
            File(
                "text/privacypolicy.queries.jsonl.gz",
                181040,
                "8d08575b35fc6903b2fae279d8cda7b920b216d9cead32d0b1900b60b9d6cc83",
            ),
        ),
    ),
    "text/pubmed": Entry(
        "PubMed abstracts, research questions",
        "https://github.com/pubmedqa/pubmedqa",
        files=(
            File(
                "text/pubmed.passages.jsonl.gz",
                1839075,
                "5ac753eae002d37b531ba982887d4f07983704c6800dbd856aa3f23689f2bdd5",
            ),
            File(
                "text/pubmed.queries.jsonl.gz",
                206020,
                "60506cca2fecba28f941eca534f4931ec7c31c83085ed82a9e73469789eec78d",
            ),
        ),
    ),
    "text/regulatory": Entry(
        "financial rulebooks, questions (ObliQA)",
        "https://github.com/RegNLP/ObliQADataset",
        files=(
            File(
                "text/regulatory.passages.jsonl.gz",
                1369296,
                "132f524e99ca9921d711144e055af8639f69338bf1ec3d34c0ec7e1c06396cf3",
            ),
            File(
                "text/regulatory.queries.jsonl.gz",
                505202,
                "f1fdf551a839d4a37fdae540f605189ed0ec149729f26b8000d55b96224ae8cc",
            ),
        ),
    ),
    "text/scifact": Entry(
        "biomedical abstracts, claims (SciFact)",
        "https://github.com/allenai/scifact",
        files=(
            File(
                "text/scifact.passages.jsonl.gz",
                2760703,
                "83850bb1dff86078d96a09ff09b7a650cad37188892632332e08ed9488230f9a",
            ),
            File(
                "text/scifact.queries.jsonl.gz",
                52067,
                "21e1dd9ba77c9bdd3f4ecaaa186b4b9012ca80cd3d8166c45f348a6ffd568087",
            ),
        ),
    ),
    "text/wikipedia": Entry(
        "Wikipedia paragraphs, questions (XQuAD)",
        "https://github.com/google-deepmind/xquad",
        files=(
            File(
                "text/wikipedia.passages.jsonl.gz",
                1169479,
                "4583aa5364fe2c679099d51e7c3811cacf4cd78170f5a95667da574e92cab626",
            ),
            File(
                "text/wikipedia.queries.jsonl.gz",
                35649,
                "0acfb6e1f0081de08e9f616fd18f954099c993b0b94c353338aa527806f27dee",
            ),
        ),
    ),
    "pairs/quora_dev": Entry(
        "20,212 question pairs, 7,585 duplicates",
        "https://quoradata.quora.com/First-Quora-Dataset-Release-Question-Pairs",
        files=(
            File(
                "pairs/quora_dev.jsonl.gz", 1331068, "cc80260e361772a93c8fb79bc9188cfcbef29a63c32202f7abd096a2be4d10d5"
            ),
        ),
    ),
    "pairs/paws_wiki_dev": Entry(
        "8,000 adversarial sentence pairs (PAWS)",
        "https://github.com/google-research-datasets/paws",
        files=(
            File(
                "pairs/paws_wiki_dev.jsonl.gz",
                576447,
                "39b2010af86681e5591823d885587d2e1d3fd7b059938df93a73fe58060c1f90",
            ),
        ),
    ),
    "pairs/banking77": Entry(
        "13,083 banking queries, 77 intents",
        "https://github.com/PolyAI-LDN/task-specific-datasets",
        files=(
            File(
                "pairs/banking77.jsonl.gz", 215375, "09372ccfed5aa9f1de01aea88fa3eb900f3a5b010fdc54e3108a3d68171d9e62"
            ),
        ),
    ),
    "pairs/clinc150": Entry(
        "23,700 queries, 150 intents and out of scope",
        "https://github.com/clinc/oos-eval",
        files=(
            File("pairs/clinc150.jsonl.gz", 281241, "70d3a742b1fd95d9209a0b71126ef19e832c13bf5828101fa85474ccb5ed6052"),
        ),
    ),
    "embeddings/climate": Entry(
        "MiniLM vectors of text/climate",
        "https://www.sbert.net/docs/sentence_transformer/pretrained_models.html",
        files=(
            File("embeddings/climate.npz", 2445822, "17b8e8406f2dbf239557e76242122a937210ba99087b9cea34ae9481d1433eaa"),
        ),
    ),
    "embeddings/electronics": Entry(
        "MiniLM vectors of text/electronics",
        "https://www.sbert.net/docs/sentence_transformer/pretrained_models.html",
        files=(
            File(
                "embeddings/electronics.npz",
                4470406,
                "77fab7ebc20bfcd0e49d1cd98a14d8adfb27d0b6513d8022cc4294cdd9762afd",
            ),
        ),
    ),
    "embeddings/finance": Entry(
        "MiniLM vectors of text/finance",
        "https://www.sbert.net/docs/sentence_transformer/pretrained_models.html",
        files=(
            File("embeddings/finance.npz", 2445822, "ad998574df05cb50d910553a4ef781c5b9d0f54ce407b357729a1c9821b48b25"),
        ),
    ),
    "embeddings/medquad": Entry(
        "MiniLM vectors of text/medquad",
        "https://www.sbert.net/docs/sentence_transformer/pretrained_models.html",
        files=(
            File(
                "embeddings/medquad.npz", 13130178, "99c34e2fed1e03d51f27a0bfd9625bc9cf8db19393100825dc5d3cb4d03bfafc"
            ),
        ),
    ),
    "embeddings/news": Entry(
        "MiniLM vectors of text/news",
        "https://www.sbert.net/docs/sentence_transformer/pretrained_models.html",
        files=(
            File("embeddings/news.npz", 5893978, "3d1597261c718a10cd6f353c4aebfff3a96b49d24929d56ea49219b4cab7f909"),
        ),
    ),
    "embeddings/privacypolicy": Entry(
        "MiniLM vectors of text/privacypolicy",
        "https://www.sbert.net/docs/sentence_transformer/pretrained_models.html",
        files=(
            File(
                "embeddings/privacypolicy.npz",
                2381026,
                "9be671eb0c0d2a2957060cb43592fbd0d4f8b8209c69a12bd949ad952b27229d",
            ),
        ),
    ),
    "embeddings/pubmed": Entry(
        "MiniLM vectors of text/pubmed",
        "https://www.sbert.net/docs/sentence_transformer/pretrained_models.html",
        files=(
            File("embeddings/pubmed.npz", 6886094, "e47d892d965783460b7d37f2d6fb669929c0e2d06f466dbbae91321fdcd70139"),
        ),
    ),
    "embeddings/regulatory": Entry(
        "MiniLM vectors of text/regulatory",
        "https://www.sbert.net/docs/sentence_transformer/pretrained_models.html",
        files=(
            File(
                "embeddings/regulatory.npz", 7019566, "3446eba50116fe03aefb5b54011d777f3f8257a69405eed4191e4c049f8f39b9"
            ),
        ),
    ),
    "embeddings/scifact": Entry(
        "MiniLM vectors of text/scifact",
        "https://www.sbert.net/docs/sentence_transformer/pretrained_models.html",
        files=(
            File("embeddings/scifact.npz", 2442330, "4e30ea6e6637e19ee651c2396b3677ea62b1218c9bf36229f3d33581def250e3"),
        ),
    ),
    "embeddings/wikipedia": Entry(
        "MiniLM vectors of text/wikipedia",
        "https://www.sbert.net/docs/sentence_transformer/pretrained_models.html",
        files=(
            File(
                "embeddings/wikipedia.npz", 2923450, "f39786593e88be368339eebe2577f08d87b12855bfc48f84daa2c7055695f505"
            ),
        ),
    ),
    "embeddings/mirage": Entry(
        "MiniLM vectors of mirage",
        "https://www.sbert.net/docs/sentence_transformer/pretrained_models.html",
        files=(
            File("embeddings/mirage.npz", 2975766, "55697d6d856537a8cb241eec4e1ba09906afcdf6b97ac7a4b07e16c6a8a63e7d"),
        ),
    ),
    "embeddings/quora_dev": Entry(
        "MiniLM vectors of pairs/quora_dev",
        "https://www.sbert.net/docs/sentence_transformer/pretrained_models.html",
        files=(
            File(
                "embeddings/quora_dev.npz", 15685494, "a85bd0cd40f65ab74d80b2a4e6eba99dac4153d8850e279d7b08858887130d59"
            ),
        ),
    ),
    "embeddings/paws_wiki_dev": Entry(
        "MiniLM vectors of pairs/paws_wiki_dev",
        "https://www.sbert.net/docs/sentence_transformer/pretrained_models.html",
        files=(
            File(
                "embeddings/paws_wiki_dev.npz",
                6208982,
                "ea3801f22728085a3dd207785cc3ed693fb43995b4891253150fb749c02dcf4d",
            ),
        ),
    ),
    "traces/ai_benchmark_phones": Entry(
        "333 phones: processors, memory, AI scores",
        "https://ai-benchmark.com/ranking.html",
        files=(
            File(
                "traces/ai_benchmark_phones.csv.gz",
                9747,
                "3cfafd4ef111d132f02b251f6d174ad6b9afd550e890a7785f9731530db6d18c",
            ),
        ),
    ),
    "traces/mobile_bandwidth": Entry(
        "126 logs of 3G and 4G throughput on the move",
        "https://github.com/UMass-LIDS/sabre",
        files=(
            File(
                "traces/mobile_bandwidth.npz",
                341704,
                "f3cea1188e85fd0389666861a1ea8421fce64f11d93dae3ae65d0dd62ceca7fd",
            ),
        ),
    ),
    "traces/moe_routing": Entry(
        "expert loads of mixture-of-experts runs",
        "https://github.com/sacs-epfl/HarMoEny",
        files=(
            File("traces/moe_routing.npz", 544212, "16ab2695445bcd14ca8299a9bff1669049a41e37aa921f81f53ba2286c360ad3"),
        ),
    ),
    "traces/netlatency": Entry(
        "round-trip times, PlanetLab and Seattle",
        "https://github.com/uofa-rzhu3/NetLatency-Data",
        files=(
            File("traces/netlatency.npz", 1875327, "c2d5e331be14945f9ed6d20f34c9998b09d736685e575c83fac3e7b4e17cb920"),
        ),
    ),
    "traces/skiptrain_energy_cifar-10": Entry(
        "energy of four phones training CIFAR-10",
        "https://github.com/sacs-epfl/SkipTrain",
        files=(
            File(
                "traces/skiptrain_energy_cifar-10.csv",
                630,
                "5b144beb32a42430d3a2608bbfcb4a3298d7d7487e1700a17b737189e4d56690",
            ),
        ),
    ),
    "traces/skiptrain_energy_femnist": Entry(
        "energy of four phones training FEMNIST",
        "https://github.com/sacs-epfl/SkipTrain",
        files=(
            File(
                "traces/skiptrain_energy_femnist.csv",
                625,
                "19061adbfb03158a6423fac2d1c38e88666d11103ed14331ba0e1534da09aad4",
            ),
        ),
    ),
    "traces/smartphone_availability": Entry(
        "when 776 volunteers' phones were online",
        "https://github.com/RobertOrmandi/Gossip-Learning-Framework",
        files=(
            File(
                "traces/smartphone_availability.npz",
                1047500,
                "49836376c010c5709a6aab6328388cd7cce216b9e6f0200f957850914187ca2b",
            ),
        ),
    ),
}
